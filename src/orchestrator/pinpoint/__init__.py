"""Amazon Pinpoint's journeys, segments and templates as ours: pure, from JSON to JSON (docs/pinpoint.md)."""
