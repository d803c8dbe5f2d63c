"""The source that signs and sends its calls without the SDK."""
