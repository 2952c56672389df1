"""What every floor needs: errors, files, tables, start-up."""
