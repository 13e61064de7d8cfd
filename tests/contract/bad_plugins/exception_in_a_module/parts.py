plugin = 1 / 0
