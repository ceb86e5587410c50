"""DynamicCity: a whole clip as six planes of features, laid into one map on which a diffusion transformer works."""
