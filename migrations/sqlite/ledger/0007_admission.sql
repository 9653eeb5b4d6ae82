-- Who may order in a sale, as JSON; NULL: everyone may order.
ALTER TABLE sales ADD COLUMN admission TEXT;
