"""What the service tells about itself while it works: figures for Prometheus, spans for OpenTelemetry.

Both are kept for the process as a whole, as their libraries do. Nothing here knows anything of ours, so every
part of the service may tell.
"""
