"""What two or more stages, or a stage and `leti_ctl`, must agree on. No torch, no kubernetes."""
