"""What a training step costs: time (`clock`), energy (`price`, `ledger`), area (`area`), put together in `cost`."""
