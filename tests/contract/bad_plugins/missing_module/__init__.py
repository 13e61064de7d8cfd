from . import missing

plugin = missing.plugin
