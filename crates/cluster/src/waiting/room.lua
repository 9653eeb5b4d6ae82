-- The room of a sale as it is. Changes nothing.
--
-- Answer: the room, or nothing

local room = read()
return room and answer(room)
