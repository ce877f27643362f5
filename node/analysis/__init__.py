"""From a stored image to findings on the page: the inference process and its durable workflows."""
