from drivetrain import attach as attach
