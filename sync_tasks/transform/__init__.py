"""Transform (ETL): a Lua function that sees each command and says what becomes of it. See docs/transforms.md."""
