"""How each field is answered: functions, inputs, batch loaders, the context of one operation."""
