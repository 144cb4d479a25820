-- Which target of an Llm answered, as host and port.
ALTER TABLE usage ADD COLUMN target TEXT;
