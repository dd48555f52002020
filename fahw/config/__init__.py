"""Reading of the user's files: schemas, strict YAML, and every mistake with its place."""
