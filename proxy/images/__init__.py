"""Where pictures are kept, under which names, and how they are served."""
