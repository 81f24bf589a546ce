-- Version 2: the file name that the user wants for a clip, without ending; NULL for one made from the key.
ALTER TABLE omni_jobs ADD COLUMN name text;
