"""From results to what people read: terminal, Markdown, HTML and CSV. Needs no torch."""
