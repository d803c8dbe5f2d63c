"""The engine: knows neither AWS nor Lambda, and does I/O only through a source."""
