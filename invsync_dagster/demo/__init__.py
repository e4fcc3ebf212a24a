"""The demo: stand-in shops, receiver and Dagster on this machine, buyers in the shops, and what happens in the terminal."""
