"""Metrics of predictions, and the tables behind them."""
