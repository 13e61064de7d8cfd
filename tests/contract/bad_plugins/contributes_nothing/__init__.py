from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()
