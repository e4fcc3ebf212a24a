"""Stock and mappings from files: reading, checking, previewing, holding, applying, and the folder that is watched."""
