from latchflow.cli import main

main()
