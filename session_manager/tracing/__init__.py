"""Traces: the context of a request on its way to the pod (W3C Trace Context), and spans for OpenTelemetry."""
