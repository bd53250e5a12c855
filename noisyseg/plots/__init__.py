"""Arrays and tables in, matplotlib Figures out; nothing here trains, prints or saves."""
