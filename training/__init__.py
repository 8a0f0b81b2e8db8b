"""Programs that make the data and the weights of the `pico` preset; never imported by the package."""
