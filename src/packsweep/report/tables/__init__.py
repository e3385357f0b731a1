"""What the commands print: tables, and the lines below them."""
