"""What a sweep will do, before it costs anything."""
