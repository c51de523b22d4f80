"""The page that shows a testnet: its nodes, its channels, and what moves in them."""
