"""Tables, pictures and pages: they take data and return text or a figure."""
