"""Your tools on a model of another library: course/other_models.py is the page that uses this."""
