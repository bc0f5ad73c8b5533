"""The rules of the integration: values in, values out; no I/O, no library."""
