"""The trainer of the upscaler that ships: a compact network, taught on drawings that are made by numbers alone."""
