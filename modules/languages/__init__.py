"""The languages of the page: their texts by the English, what of them is missing, and what browsers load."""
