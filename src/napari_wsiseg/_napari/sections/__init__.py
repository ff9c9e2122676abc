"""The parts of the dock, one a file: each shows what it is told, and says what is asked for."""
