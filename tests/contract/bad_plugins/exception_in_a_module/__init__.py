from . import parts

plugin = parts.plugin
