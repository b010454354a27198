"""`make storm`: real processes while everything goes wrong at once, and the comparison with the truth afterwards."""
