"""The rooms: rule, data, tasks, engine, scoring; each README says what belongs there.  Files beside them serve all."""
