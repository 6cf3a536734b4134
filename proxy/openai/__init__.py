"""OpenAI's shapes. The only place that knows them: plugins ask here, none parses by hand."""
