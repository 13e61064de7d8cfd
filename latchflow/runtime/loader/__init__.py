"""From a folder to code that is checked and imported: never in place, never unchecked."""
