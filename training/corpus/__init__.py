"""A talking-head corpus anyone may use: rendered heads with exact labels, made from one seed."""
