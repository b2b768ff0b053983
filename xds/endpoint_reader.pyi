# Native only: endpoint_reader.pxd is its interface.
