"""What a training step costs: time (`clock`), energy (`unit_prices`, `ledger`) and area (`area`), joined in `cost`."""
