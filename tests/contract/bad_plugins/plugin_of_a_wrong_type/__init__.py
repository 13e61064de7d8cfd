plugin = 5
