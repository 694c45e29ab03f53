"""Read run records and compare them: tables, figures and the statistics behind them."""
