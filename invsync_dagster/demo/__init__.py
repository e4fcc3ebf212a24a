"""The demo: stand-in shops, receiver and Dagster on this machine, buyers in the shops, all shown in the terminal."""
