"""Settings and agent configuration: data, parsed once into typed values."""
