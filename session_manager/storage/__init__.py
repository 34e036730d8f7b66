"""Files and conditional objects in folders and buckets."""
