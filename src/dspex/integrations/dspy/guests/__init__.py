"""What runs inside guests, as files of their own; the host reads and compiles them, and imports none."""
