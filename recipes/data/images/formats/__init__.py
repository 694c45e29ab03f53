"""How files of labelled images are laid out: class folders, and tables that name or hold them."""
