"""Running code: executors, sessions, results, and the pool of guests behind them."""
