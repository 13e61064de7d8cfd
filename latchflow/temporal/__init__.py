"""How Temporal is used: the client and its codec, starting events, watching over them, reading their history."""
