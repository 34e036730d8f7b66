-- The trace context of the request that sent the message: traceparent, and tracestate after a space.
ALTER TABLE message ADD COLUMN trace TEXT;
