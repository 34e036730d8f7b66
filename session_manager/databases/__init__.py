"""Work on whole databases, by hand and now and then: copy, merge, count. It walks the tables of the code's schema."""
