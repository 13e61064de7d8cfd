import os
import sys

sys.stdout.write('{"contract": {}}\n')
sys.stdout.flush()
os._exit(0)
